"""What Kaggle would do, done here: the notebook in a clean environment, without network, under a cap on memory."""

"""Opinion pools: several probability vectors a row as one, and the weights that suit votes best."""

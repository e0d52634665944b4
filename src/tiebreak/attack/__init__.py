"""Can a judge be talked into a verdict? Tricks that no person would reward, and how often they work."""

"""Models as data: the card, the one door for weights, and where models are found."""

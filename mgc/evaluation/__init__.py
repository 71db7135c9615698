"""How good a model is and what a labels run did: scores, and one HTML page that shows them."""

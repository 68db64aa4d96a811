"Classifiers, weights by name, engines, and the choice among them."

"What computes: classifiers, their weights by name, engines, and the choice among them."

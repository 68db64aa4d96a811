"How fast it is, and compared with what."

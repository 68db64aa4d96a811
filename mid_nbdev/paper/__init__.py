"The paper's numbers, networks and tables."

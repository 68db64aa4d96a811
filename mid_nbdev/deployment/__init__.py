"Exported graphs and integrations with other libraries."

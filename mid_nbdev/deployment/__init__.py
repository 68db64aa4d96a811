"Where it goes: exported graphs, other people's code."

"The `mid` command."

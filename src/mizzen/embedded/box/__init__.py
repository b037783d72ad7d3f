"""The box: one private set of namespaces that holds a whole cluster."""

"""What users write: frozen structs, one module per API group; no logic but "is this legal?"."""

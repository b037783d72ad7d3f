"""The objects that make a mesh: profiles in, manifests out."""

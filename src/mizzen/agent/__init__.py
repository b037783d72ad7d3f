"""What runs beside Envoy in a Pod."""

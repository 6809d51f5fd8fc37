"""The gateway's own routes: the control plane."""

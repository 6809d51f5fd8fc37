"""The gateway: a data plane that relays, and a control plane that tells."""

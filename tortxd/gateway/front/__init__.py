"""The gateway's own port: connections of clients, and the requests on them."""

"""The embedded Valkey, which is used when no Redis address is given."""

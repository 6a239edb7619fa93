"""The bus: a port with a Kafka and a memory adapter."""

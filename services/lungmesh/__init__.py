"""LungMesh: a streaming microservice mesh that reads chest CT for lung nodules."""

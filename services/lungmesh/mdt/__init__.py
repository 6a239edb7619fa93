"""The mdt service: what the multidisciplinary team needs to decide."""

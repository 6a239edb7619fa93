"""Chooses the CT series, judges it, and puts it on a grid with lungs and lobes."""

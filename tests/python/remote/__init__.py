"""Tests over a network. A package, so that its conftest is not mistaken for the one above."""

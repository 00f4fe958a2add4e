"""Offline hands: what an operator does with files while no server has them.

A module for each; who needs one imports that one: together they are half of the house, and a tool would start slowly.
"""

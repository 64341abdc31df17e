"""What the client costs and how soon it tells, measured beside plain polling: ``python -m benchmarks NAME``.

Everything happens at ten times real speed: runs of a median of 6 s, and all intervals a tenth of what they would be.
"""

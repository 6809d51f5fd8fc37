"""``make bench``: how fast tortxd is, beside what else does such work.

Everything is measured in one run: tortxd and each of its peers by turns, in pairs, so that what
else goes on in the machine meets both alike. What counts is the median of the pairs' ratios.

``native`` holds the far end and the load client, in C; ``gateways`` what runs as a process of its
own and is measured.
"""

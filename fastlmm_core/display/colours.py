"""Colours of maps that part at zero, the same in figures and in reports: blue above, orange below.

As field maps of the R package desplot and correlation matrices of corrplot have them, which go from red to
blue; orange and blue are told apart by readers who do not see red and green. Light in the middle, dark at
both ends.
"""

DIVERGING = (
    "#a63603",
    "#d9662a",
    "#f0a376",
    "#f9dcc8",
    "#f7f7f7",
    "#cfe1ef",
    "#8dbadb",
    "#3f86bd",
    "#08519c",
)
# What a legend says of them.
SIDES = "blue above 0, orange below"

"""Convolution, batch norm and pooling over the active sites of a stack of frames. How a model uses them:

sites = Sites.all(frames, height, width)        # every place is active
x = sites.from_dense(front(images))             # rows [n, C]
selected = select(sites, attention, p)          # models/common/nucleus.py; attention [N, S]
x = select_rows(x, sites, selected)             # the rows of the selected sites
x = first(x, selected)                          # SubmanifoldBlock: convolution, norm over active rows, ReLU
x, sites = second.forward_pooled(x, selected)   # the same and a 2x2 max pool: rows and sites of the next level
grid = sites.to_dense(x)                        # [N, C, H, W], 0 at inactive places
"""

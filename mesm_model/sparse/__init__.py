"""Convolution, norm and pooling over the active sites of a stack of frames. How a model uses it:

sites = Sites.all(frames, height, width)            # every place is active
x = sites.from_dense(front(pictures))               # rows [n, C]
selected = select(sites, attention, p)                  # mesm_model/nucleus.py; attention [N, S], from sites.scatter(logits)
x = narrow(x, sites, selected)                          # the selected rows; selected.gather(attention) is theirs
x = first(x, selected)                                  # SubmanifoldBlock: convolution, norm over active rows, ReLU
x, sites = second.forward_pooled(x, selected)           # the same and a 2x2 max pool: rows and sites of the next level
picture = sites.to_dense(x)                         # [N, C, H, W], 0 where no site is
"""

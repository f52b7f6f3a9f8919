"""Convolution, normalisation and pooling over the active sites of a stack of frames. How a model uses it:

sites = Sites.all(frames, height, width)            # every place active; x = sites.from_dense(front(pictures)), [n, C]
kept = select(sites, prob, p)                       # mesm_model/nucleus.py; prob [N, S] from sites.spread(logits, -inf)
x = narrow(x, sites, kept)                          # the kept rows; kept.collect(prob) is their attention
x = block(x, kept)                                  # SubmanifoldBlock: convolution, norm over active rows, ReLU
x, sites = pool(x, kept)                            # SparseMaxPool2d: rows and sites of the next level
picture = sites.to_dense(x)                         # [N, C, H, W], 0 where no site is
"""

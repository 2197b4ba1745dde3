"""Adversarial training: what the families ``cgan``, ``pix2pix`` and ``cyclegan`` share.

config.py           ``AdversarialConfig``, the fields that their configurations have in common
losses.py           adversarial losses by name, R1, and the mode-seeking term
critic.py           a discriminator with its loss, and the pool of earlier images
generator.py        the base of image-to-image generators, whose dropout can be a draw's noise
networks.py         the U-Net and the patch discriminator of Isola et al. 2017
layers.py           layers, padding and initial weights of their networks
preset_settings.py  settings that their presets share

Networks that one family alone has are in its folder. The configuration and the settings import no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Are results what their plans say? `job` checks all of it, `draws` the draws files, `tables` what is around them."""

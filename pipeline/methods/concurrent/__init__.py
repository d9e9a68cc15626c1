"""Videos whose objects are found together by reading a memory of frames: what IDPro, CiVOS and Lazy-XMem share.

Modules here implement `pipeline.methods.base.ConcurrentVideo`; the method files compose them.
"""

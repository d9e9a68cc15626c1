"""Videos whose objects are followed one at a time: by tracked prompts (I-PT, SAM-PT) or from mask to mask (SAM-PD).

Modules here implement `pipeline.methods.base.PerObjectVideo`.
"""

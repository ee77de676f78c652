"""What runs inside the sandbox; it imports the standard library alone, and nothing of Tutelage.

``zygote`` is started once and forks two processes for every program: ``program`` runs the program
and answers calls, ``checks`` calls it, holds what is expected, and judges. What they say to each
other is in ``wire``; what shuts them in is in ``locks``.
"""

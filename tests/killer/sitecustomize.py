"""Makes the fit of a cell end its process, where a test asks for it."""

import os
import sys

if os.environ.get("NWBRNN_TEST_KILL"):
    import importlib.abc
    import signal

    class _Finder(importlib.abc.MetaPathFinder):
        """Patches nwbrnn.sweep.cell once it is there."""

        def find_spec(self, name, path=None, target=None):
            if name != "nwbrnn.sweep.cell":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                fit = module.fit

                def fit_or_die(ds, config, **more):
                    if str(config.sampled) == os.environ["NWBRNN_TEST_KILL"]:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return fit(ds, config, **more)

                module.fit = fit_or_die

            spec.loader.exec_module = exec_module
            return spec

    import importlib.util

    sys.meta_path.insert(0, _Finder())

"""Entry point: boot.py {run|zygote} FD"""
import os
import sys


def _main():
    if sys.version_info < (3, 10):
        sys.stderr.write("Gust's task runner needs Python 3.10 or newer; this is %s\n" % sys.version.split()[0])
        return 71
    mode, fd = sys.argv[1], int(sys.argv[2])
    # Task code must not see this package's folder before its own modules.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if p and os.path.abspath(p) != here] + [here]
    sys.argv[:] = ["gust-task"]
    if mode == "zygote":
        from gust_runner import zygote

        import asyncio.coroutines, decimal, inspect, logging, uuid  # noqa: E401,F401 paid once
        zygote.main(fd)
        return 0
    from gust_runner import runner

    return runner.main(fd)


if __name__ == "__main__":
    code = _main()
    import atexit

    atexit._run_exitfuncs()
    os._exit(code)  # threads of the task must not keep the process

"""What pyproject.toml cannot say: a wheel holds the declarations of `papers/` inside the package, in `declared`."""

from setuptools import setup
from setuptools.command.build_py import build_py


class WithDeclarations(build_py):
    """An editable installation reads `papers/` of the checkout."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_tree("papers", f"{self.build_lib}/merlib/declared")


setup(cmdclass={"build_py": WithDeclarations})

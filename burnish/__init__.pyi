from burnish.api import convert as convert
from burnish.api import load as load
from burnish.api import validate as validate

from .access import Access as Access
from .app import make_app as make_app
from .gallery import Gallery as Gallery
from .gallery import Statements as Statements
from .stored_results import StoredResults as StoredResults

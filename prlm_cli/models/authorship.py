"""A linear classifier of authors: whether a title is one of a user's or of others'.

Logistic regression over hashed character n-grams. It knows a user's subjects as well as the user's habits: both are in
the characters. Nothing of it is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

_NGRAMS = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 4), n_features=2**18, alternate_sign=False)


class AuthorClassifier:
    """Tells one user's titles from those of others; both sides weigh the same, however many titles they have.

    Args:
        own: The user's titles, at least one.
        others: Other users' titles, at least one.
    """

    def __init__(self, own: Sequence[str], others: Sequence[str]) -> None:
        # liblinear: of scikit-learn's solvers the fastest for few rows of many sparse features.
        self._model: Any = LogisticRegression(class_weight="balanced", solver="liblinear", random_state=0)
        self._model.fit(_NGRAMS.transform([*own, *others]), [True] * len(own) + [False] * len(others))

    def probability(self, text: str) -> float:
        """How likely a text is the user's, in [0, 1]."""
        return float(self._model.predict_proba(_NGRAMS.transform([text]))[0, 1])

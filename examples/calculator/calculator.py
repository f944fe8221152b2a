"""Arithmetic on whole shopping baskets."""


def total(prices):
    """The sum of all prices."""
    return sum(prices)


def average(prices):
    """The mean price; 0 for an empty basket."""
    return sum(prices) / len(prices)


def discounted(price, percent):
    """The price after a discount of so many percent."""
    return price * (100 - percent) / 100

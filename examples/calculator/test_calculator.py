import unittest

from calculator import average, discounted, total


class Calculator(unittest.TestCase):
    def test_total(self):
        self.assertEqual(total([1, 2, 3]), 6)
        self.assertEqual(total([]), 0)

    def test_average(self):
        self.assertEqual(average([2, 4]), 3)

    def test_average_of_an_empty_basket(self):
        self.assertEqual(average([]), 0)

    def test_discounted(self):
        self.assertEqual(discounted(200, 25), 150)


if __name__ == "__main__":
    unittest.main()

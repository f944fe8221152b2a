import os
import unittest


class TestMailer(unittest.TestCase):
    def test_the_key_comes_from_the_environment(self):
        os.environ["MAILER_API_KEY"] = "given"
        import mailer

        self.assertEqual(mailer.headers(), {"Authorization": "Bearer given"})

"""`recheck`: does the decision of a finished run still stand, with a newer model or prompt, or with other documents?"""

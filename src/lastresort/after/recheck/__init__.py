"""`recheck`: does the decision of a finished run still hold with a newer model or prompt, or with other documents?"""

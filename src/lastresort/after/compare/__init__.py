"""`climb --compare`: what one way of training costs against another, on the task at hand."""

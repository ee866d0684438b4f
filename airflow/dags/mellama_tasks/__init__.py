"""What the two DAG files share. It defines no DAG, so `.airflowignore` keeps Airflow from looking for one here."""

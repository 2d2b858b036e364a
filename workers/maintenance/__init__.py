"""What keeps the promises when something died: `python -m workers.maintenance`. Any number of them may run.

    hints     sends the hints that the outbox still holds, and new ones where jobs wait and no hint does
    reaper    takes jobs from workers that were not heard of within their lease
    sweep     ends processes and removes folders of attempts that nobody supervises
    expiry    forgets what is older than the retention

Each is a guarded change of the database, so doing it twice, late or together with another changes nothing.
"""

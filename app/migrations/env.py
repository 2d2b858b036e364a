"""Alembic's entry: migrations run on the connection that `app.bootstrap` hands over."""

from alembic import context

from app.database import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the caller's transaction holds everything
)
context.run_migrations()

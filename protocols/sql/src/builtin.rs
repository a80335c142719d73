//! Tables of what PostgreSQL brings along.

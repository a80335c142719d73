-- A small shop: customers whose data must not leave in clear, products, orders.

CREATE TABLE customers (
    id         integer PRIMARY KEY,
    name       text NOT NULL,
    email      text NOT NULL,
    phone      text NOT NULL,
    city       text NOT NULL,
    notes      text NOT NULL DEFAULT ''
);

CREATE TABLE products (
    id         integer PRIMARY KEY,
    name       text NOT NULL,
    price      numeric(8, 2) NOT NULL,
    stock      integer NOT NULL
);

CREATE TABLE orders (
    id          integer PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers (id),
    product_id  integer NOT NULL REFERENCES products (id),
    quantity    integer NOT NULL,
    status      text NOT NULL,
    placed_at   timestamptz NOT NULL
);

INSERT INTO customers
SELECT n,
       first[1 + n % 12] || ' ' || last[1 + n / 12 % 14],
       lower(first[1 + n % 12] || '.' || last[1 + n / 12 % 14]) || n || '@example.com',
       '+49 30 5550' || lpad((n * 37 % 10000)::text, 4, '0'),
       city[1 + n % 6],
       CASE n % 4
           WHEN 0 THEN 'called about an invoice, paid with card ' || card[1 + n % 5]
           WHEN 1 THEN 'identified with SSN ' || (100 + n % 500) || '-' || lpad((1 + n % 98)::text, 2, '0') || '-' || lpad((1 + n * 13 % 9998)::text, 4, '0')
           WHEN 2 THEN 'prefers deliveries on Friday'
           ELSE ''
       END
FROM generate_series(1, 160) n,
     (SELECT ARRAY['Ada', 'Ben', 'Cleo', 'Dev', 'Eva', 'Finn', 'Gina', 'Hugo', 'Ines', 'Jan', 'Kim', 'Lea'] first,
             ARRAY['Adler', 'Brandt', 'Costa', 'Diaz', 'Egger', 'Fuchs', 'Gruber', 'Haas', 'Ilic', 'Jung', 'Klein', 'Lang', 'Maier', 'Nowak'] last,
             ARRAY['Berlin', 'Lisbon', 'Oslo', 'Vienna', 'Warsaw', 'Zurich'] city,
             ARRAY['4111 1111 1111 1111', '5555 5555 5555 4444', '4012 8888 8888 1881', '3782 822463 10005', '6011 1111 1111 1117'] card) names;

INSERT INTO products
SELECT n, kind[1 + n % 8] || ' no. ' || n, 4.90 + n * 3, n * 7 % 90
FROM generate_series(1, 40) n,
     (SELECT ARRAY['Lamp', 'Chair', 'Desk', 'Shelf', 'Rug', 'Clock', 'Mirror', 'Vase'] kind) names;

INSERT INTO orders
SELECT n, 1 + n * 7 % 160, 1 + n * 11 % 40, 1 + n % 4, status[1 + n % 4], timestamptz '2026-01-01' + n * interval '7 hours'
FROM generate_series(1, 800) n,
     (SELECT ARRAY['open', 'paid', 'sent', 'returned'] status) names;

ANALYZE customers, products, orders;

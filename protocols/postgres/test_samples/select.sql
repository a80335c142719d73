\set id random(1, 9)
select :id, repeat(chr(64 + :id), :id);

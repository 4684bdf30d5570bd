select count(*) from t where b = '{{ ds_nodash }}'

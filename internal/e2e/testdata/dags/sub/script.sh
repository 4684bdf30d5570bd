echo "from {{ ds_nodash }} $0"
